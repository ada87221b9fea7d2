/**
 * Whether the labels on the page are those of the server.
 *
 * Every change raises the server's revision by one. An answer that isn't the next one means that
 * another one is missing here: a second tab's, or one that was overtaken on its way.
 */
export class Revisions {
  private known: number;
  private isBehind = false;

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

  /** The server says that it is at this revision, while nothing is on its way to this page. */
  told(revision: number): void {
    if (revision !== this.known) this.isBehind = true;
  }

  /** Whether state and labels have to be asked for again. */
  get behind(): boolean {
    return this.isBehind;
  }
}
