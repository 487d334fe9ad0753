import { type ReactNode, useEffect, useId, useRef } from "react";

/** A modal question. The browser keeps the focus inside and gives it back afterwards. */
export function Dialog({
  open,
  onClose,
  title,
  describedBy,
  children,
}: {
  open: boolean;
  onClose: () => void;
  title: string;
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
      // A question with a field starts in the field; others start on the first, harmless button.
      element.querySelector<HTMLElement>("input:not([hidden])")?.focus();
    }
    if (!open && element.open) element.close();
  }, [open]);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={id}
      aria-describedby={describedBy}
      onClose={onClose}
      className="w-[min(28rem,calc(100vw-2rem))] rounded-card border border-line bg-surface p-6 text-ink shadow-card"
    >
      <h2 id={id} className="mb-3 text-xl font-semibold">
        {title}
      </h2>
      {open && children}
    </dialog>
  );
}
