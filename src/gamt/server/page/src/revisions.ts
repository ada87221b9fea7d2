/**
 * Whether the labels on the page are those of the server.
 *
 * Every change raises the server's revision by one. An answer that isn't the next one means that
 * another one is missing here: a second tab's, or one that was overtaken on its way.
 */
export class Revisions {
  private known: number;
  private isBehind = false;
  /** The highest one that the events told of. */
  private highest = 0;

  constructor(first: number) {
    this.known = first;
  }

  /** All that is known of the server is of this revision. */
  restart(revision: number): void {
    this.known = revision;
    this.isBehind = false;
  }

  /** An answer to this page; whether it is newer than what is shown. */
  answered(revision: number): boolean {
    if (revision !== this.known && revision !== this.known + 1) this.isBehind = true;
    const isNewer = revision >= this.known;
    this.known = Math.max(this.known, revision);
    return isNewer;
  }

  /** The events say that the server is at this revision; its answer may still be on its way. */
  told(revision: number): void {
    this.highest = Math.max(this.highest, revision);
  }

  /** Other events begin: perhaps those of another server, which counts from lower down. */
  forgetTold(): void {
    this.highest = 0;
  }

  /** Whether an answer was missed: state and labels have to be asked for again. */
  get behind(): boolean {
    return this.isBehind;
  }

  /** Whether there is more than what is shown: something was missed, or is on its way. */
  get outdated(): boolean {
    return this.isBehind || this.highest > this.known;
  }
}
