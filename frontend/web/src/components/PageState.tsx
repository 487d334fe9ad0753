import { type ReactNode, useEffect, useRef } from "react";

/** A whole page that says one thing and what to do about it. */
export function PageState({
  title,
  children,
  action,
  takesFocus = false,
}: {
  title: string;
  children?: ReactNode;
  action?: ReactNode;
  /** It comes in place of what had the focus, such as a form that was sent. */
  takesFocus?: boolean;
}) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (takesFocus) heading.current?.focus();
  }, [takesFocus]);
  return (
    <div className="mx-auto flex max-w-md flex-col items-center gap-4 py-16 text-center sm:py-24">
      <h1 ref={heading} tabIndex={-1} className="text-2xl font-semibold outline-none">
        {title}
      </h1>
      {children && <div className="text-balance text-muted">{children}</div>}
      {action && <div className="mt-2 flex flex-wrap justify-center gap-2">{action}</div>}
    </div>
  );
}

export function Loading() {
  return (
    <div className="flex justify-center py-24" role="status">
      <span className="sr-only">Loading</span>
      <span
        aria-hidden="true"
        className="size-8 rounded-full border-4 border-sunken border-t-accent motion-safe:animate-spin"
      />
    </div>
  );
}
