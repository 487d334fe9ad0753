import { type ReactNode, useEffect, useId, useRef } from "react";

/** A modal question. The browser keeps the focus inside and gives it back afterwards. */
export function Dialog({
  open,
  onClose,
  title,
  unasked = false,
  describedBy,
  children,
}: {
  open: boolean;
  onClose: () => void;
  title: string;
  /** It opens by itself, whatever the person is doing. */
  unasked?: boolean;
  /** Id of what a screen reader says along with the title: the focus may start behind it. */
  describedBy?: string;
  children: ReactNode;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const element = dialog.current;
    if (!element) return;
    if (open && !element.open) {
      element.showModal();
      // A question with a field starts in the field; others start on the first, harmless button. One that nobody asked
      // for starts on its title: a key that was meant for something else must not answer it.
      if (unasked) element.querySelector("h2")?.focus();
      else element.querySelector<HTMLElement>("input:not([hidden])")?.focus();
    }
    if (!open && element.open) element.close();
  }, [open, unasked]);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={id}
      aria-describedby={describedBy}
      onClose={onClose}
      className="w-[min(28rem,calc(100vw-2rem))] rounded-card border border-line bg-surface p-6 text-ink shadow-card"
    >
      <h2 id={id} tabIndex={-1} className="mb-3 text-xl font-semibold outline-none wrap-anywhere">
        {title}
      </h2>
      {open && children}
    </dialog>
  );
}
