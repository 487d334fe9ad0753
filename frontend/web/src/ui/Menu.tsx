import {
  type KeyboardEvent,
  type ReactNode,
  useCallback,
  useEffect,
  useId,
  useLayoutEffect,
  useRef,
  useState,
} from "react";
import { createPortal } from "react-dom";
import { MoreIcon } from "./icons";

export interface MenuItem {
  label: string;
  onSelect: () => void;
  icon?: ReactNode;
  /** Takes something from somebody. */
  danger?: boolean;
}

const MARGIN_PX = 8;

/** A button with three dots, and what it offers. Nothing at all without items. */
export function Menu({
  label,
  items,
  className = "",
}: {
  label: string;
  items: readonly MenuItem[];
  className?: string;
}) {
  const id = useId();
  const [open, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const start = useRef<"first" | "last">("first");

  const close = (focus: boolean) => {
    setOpen(false);
    if (focus) button.current?.focus();
  };

  const place = useCallback(() => {
    const menu = list.current;
    const anchor = button.current?.getBoundingClientRect();
    if (!menu || !anchor) return;
    const { width, height } = menu.getBoundingClientRect();
    const last = window.innerHeight - height - MARGIN_PX;
    const top = anchor.bottom <= last ? anchor.bottom : anchor.top - height;
    menu.style.top = `${Math.min(Math.max(MARGIN_PX, top), Math.max(MARGIN_PX, last))}px`;
    menu.style.left = `${Math.max(MARGIN_PX, anchor.right - width)}px`;
  }, []);

  useLayoutEffect(() => {
    if (!open) return;
    place();
    const all = list.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [];
    all[start.current === "last" ? all.length - 1 : 0]?.focus({ preventScroll: true });
  }, [open, place]);

  useEffect(() => {
    if (!open) return;
    const outside = (event: Event) => {
      const target = event.target as Node;
      if (!list.current?.contains(target) && !button.current?.contains(target)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    // It stays with its button: the chat scrolls by itself whenever somebody writes.
    document.addEventListener("scroll", place, true);
    window.addEventListener("resize", place);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("scroll", place, true);
      window.removeEventListener("resize", place);
    };
  }, [open, place]);

  if (items.length === 0) return null;

  const show = (at: "first" | "last") => {
    start.current = at;
    setOpen(true);
  };

  const onKeyDown = (event: KeyboardEvent) => {
    const all = [...(list.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to: Record<string, number> = {
      ArrowDown: (at + 1) % all.length,
      ArrowUp: (at - 1 + all.length) % all.length,
      Home: 0,
      End: all.length - 1,
    };
    const next = to[event.key];
    if (next !== undefined) {
      event.preventDefault();
      all[next]?.focus();
    } else if (event.key === "Escape" || event.key === "Tab") {
      // Tab goes on from the button, not from the end of the page where the menu is drawn.
      if (event.key === "Escape") event.preventDefault();
      event.stopPropagation();
      close(true);
    }
  };

  return (
    <>
      <button
        ref={button}
        type="button"
        aria-label={label}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        onClick={() => (open ? setOpen(false) : show("first"))}
        onKeyDown={(event) => {
          if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
          event.preventDefault();
          show(event.key === "ArrowUp" ? "last" : "first");
        }}
        className={`inline-flex size-11 shrink-0 items-center justify-center rounded-full text-muted hover:bg-sunken hover:text-ink ${className}`}
      >
        <MoreIcon />
      </button>
      {open &&
        createPortal(
          <div
            ref={list}
            id={id}
            role="menu"
            aria-label={label}
            tabIndex={-1}
            onKeyDown={onKeyDown}
            className="fixed z-50 grid w-max max-w-[calc(100vw-1rem)] min-w-52 rounded-2xl border border-line bg-surface p-1.5 text-ink shadow-card"
          >
            {items.map((item) => (
              <button
                key={item.label}
                type="button"
                role="menuitem"
                tabIndex={-1}
                onClick={() => {
                  close(true);
                  item.onSelect();
                }}
                className={`flex min-h-11 w-full items-center gap-2.5 rounded-xl px-3 text-left hover:bg-sunken focus-visible:bg-sunken ${item.danger ? "text-signal" : ""}`}
              >
                {item.icon}
                {item.label}
              </button>
            ))}
          </div>,
          document.body,
        )}
    </>
  );
}
