import "@testing-library/jest-dom/vitest";
import { cleanup, configure } from "@testing-library/react";
import { afterEach, vi } from "vitest";

// The first look at a page loads its modules: on a busy machine that takes longer than a second.
configure({ asyncUtilTimeout: 10_000 });

// What jsdom lacks of a browser.
if (!HTMLDialogElement.prototype.showModal) {
  HTMLDialogElement.prototype.showModal = function (this: HTMLDialogElement) {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function (this: HTMLDialogElement) {
    this.open = false;
    this.dispatchEvent(new Event("close"));
  };
}
window.scrollTo = () => undefined;
HTMLMediaElement.prototype.play = () => Promise.resolve();
Object.defineProperty(window, "isSecureContext", { value: true, configurable: true });
vi.stubGlobal(
  "MediaStream",
  class {
    constructor(readonly tracks: unknown[] = []) {}
  },
);

afterEach(() => {
  cleanup();
  localStorage.clear();
});
