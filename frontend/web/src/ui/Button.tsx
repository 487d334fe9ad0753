import type { ButtonHTMLAttributes, ReactNode } from "react";
import { Link, type LinkProps } from "react-router";

type Look = "primary" | "signal" | "outline" | "quiet";
type Size = "normal" | "large" | "small";

const LOOKS: Record<Look, string> = {
  primary: "bg-accent text-on-accent hover:bg-accent-hover border-transparent",
  signal: "bg-signal text-on-signal hover:bg-signal-hover border-transparent",
  outline: "bg-surface text-ink border-line-strong hover:bg-sunken",
  quiet: "bg-transparent text-ink border-transparent hover:bg-sunken",
};

const SIZES: Record<Size, string> = {
  small: "min-h-11 px-3 text-sm",
  normal: "min-h-11 px-4",
  large: "min-h-13 px-6 text-lg",
};

function looks(look: Look, size: Size, className = ""): string {
  return `inline-flex items-center justify-center gap-2 rounded-full border font-medium transition-colors disabled:cursor-not-allowed disabled:opacity-55 aria-disabled:cursor-not-allowed aria-disabled:opacity-55 ${LOOKS[look]} ${SIZES[size]} ${className}`;
}

interface Common {
  look?: Look;
  size?: Size;
  icon?: ReactNode;
}

export function Button({
  look = "outline",
  size = "normal",
  icon,
  busy = false,
  className,
  children,
  onClick,
  ...props
}: ButtonHTMLAttributes<HTMLButtonElement> & Common & { busy?: boolean }) {
  return (
    <button
      type="button"
      {...props}
      // Not `disabled` while busy: the focus would be lost, and the answer with it.
      aria-disabled={busy || undefined}
      onClick={busy ? (event) => event.preventDefault() : onClick}
      className={looks(look, size, className)}
    >
      {icon}
      {children}
    </button>
  );
}

export function ButtonLink({
  look = "outline",
  size = "normal",
  icon,
  className,
  children,
  ...props
}: LinkProps & Common & { className?: string }) {
  return (
    <Link {...props} className={looks(look, size, className)}>
      {icon}
      {children}
    </Link>
  );
}
