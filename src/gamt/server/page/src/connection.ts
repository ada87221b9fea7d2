/** The server's messages that something has changed, and how to come by them again. */

import { EVENTS_URL, Refusal, readState } from "./api.ts";
import type { Busy, State } from "./types.ts";

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5000;

export interface ConnectionHandler {
  /** Events are asked for; those of earlier are over. */
  opening(): void;
  /** The server answers, for the first time or again: what was missed meanwhile is in `state`. */
  connected(state: State): void;
  told(revision: number, busy: Busy | null): void;
  lost(): void;
  /** The server there doesn't know this page. */
  refused(): void;
}

export class Connection {
  private readonly handler: ConnectionHandler;
  private source: EventSource | null = null;
  private retryMs = FIRST_RETRY_MS;

  constructor(handler: ConnectionHandler) {
    this.handler = handler;
  }

  /**
   * Listen, as long as the page is seen: browsers keep a few connections for all tabs together, and
   * a tab that nobody sees must not take one.
   */
  start(): void {
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.close();
      else this.open();
    });
    this.open();
  }

  private open(): void {
    if (this.source || document.hidden) return;
    this.handler.opening();
    const source = new EventSource(EVENTS_URL);
    this.source = source;
    source.onopen = () => void this.greet(source);
    source.onmessage = (event: MessageEvent<string>) => {
      const { revision, busy } = JSON.parse(event.data) as { revision: number; busy: Busy | null };
      this.handler.told(revision, busy);
    };
    source.onerror = () => void this.retry(source);
  }

  /** A request has failed as it does where the server is gone. */
  reopen(): void {
    if (this.source) void this.retry(this.source);
    // Nobody listens now: that begins again by itself, or once the page is seen.
    else this.handler.lost();
  }

  private close(): void {
    this.source?.close();
    this.source = null;
  }

  private async greet(source: EventSource): Promise<void> {
    try {
      const state = await readState();
      if (source !== this.source) return;
      this.retryMs = FIRST_RETRY_MS;
      this.handler.connected(state);
    } catch {
      await this.retry(source);
    }
  }

  private async retry(source: EventSource): Promise<void> {
    source.close();
    if (source !== this.source) return;
    this.source = null;
    this.handler.lost();
    try {
      await readState();
    } catch (error) {
      // Another tab that is opened at the right address brings this one back, too.
      if (error instanceof Refusal && error.status === 401) this.handler.refused();
    }
    setTimeout(() => this.open(), this.retryMs);
    this.retryMs = Math.min(2 * this.retryMs, LAST_RETRY_MS);
  }
}
