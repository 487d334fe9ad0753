import type { ServerEvent } from "../types";

/** What waits at most; the oldest is shown early then. */
export const LATER_MAX = 1_000;
const LOOK_MS = 250;

/**
 * Holds back what belongs to a moment that somebody who listens with a delay has not heard yet: the laughing comes with the
 * joke. `heardAt` gives the media time that is heard, in seconds, null where that is the present.
 */
export class Later {
  #show: (event: ServerEvent) => void;
  #heardAt: () => number | null = () => null;
  #waiting: { event: ServerEvent; mediaTime: number }[] = [];
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(show: (event: ServerEvent) => void) {
    this.#show = show;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  listenBy(heardAt: (() => number | null) | null): void {
    this.#heardAt = heardAt ?? (() => null);
    this.#look();
  }

  /** False: it is for now. What takes something back does so for what waits as well. */
  hold(event: ServerEvent, own: string | undefined): boolean {
    if (event.event === "messageDeleted") {
      const { id } = event.data;
      this.#drop((other) => other.event === "chatMessage" && other.data.id === id);
    } else if (event.event === "messagesCleared") {
      const { userId } = event.data;
      this.#drop((other) => other.event === "chatMessage" && other.data.user.id === userId);
    }
    if (event.event !== "chatMessage" && event.event !== "reaction") return false;
    if (event.event === "chatMessage" && event.data.user.id === own) return false;
    const heard = this.#heardAt();
    const { mediaTime } = event.data;
    if (heard === null || mediaTime <= heard) return false;
    this.#waiting.push({ event, mediaTime });
    if (this.#waiting.length > LATER_MAX) {
      const first = this.#waiting.shift();
      if (first) this.#show(first.event);
    }
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS);
    return true;
  }

  /** Another room, or none: what waits is not shown any more. */
  clear(): void {
    this.#waiting = [];
    this.#rest();
  }

  #drop(gone: (event: ServerEvent) => boolean): void {
    this.#waiting = this.#waiting.filter(({ event }) => !gone(event));
  }

  #look(): void {
    const heard = this.#heardAt();
    const due = this.#waiting.filter(({ mediaTime }) => heard === null || mediaTime <= heard);
    if (due.length > 0) this.#waiting = this.#waiting.filter((item) => !due.includes(item));
    if (this.#waiting.length === 0) this.#rest();
    for (const { event } of due) this.#show(event);
  }

  #rest(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
