import { type ReactNode, useId } from "react";

export function Card({
  title,
  aside,
  children,
  className = "",
  level = 2,
}: {
  title?: string;
  aside?: ReactNode;
  children: ReactNode;
  className?: string;
  level?: 2 | 3;
}) {
  const id = useId();
  const Heading = `h${level}` as const;
  return (
    <section
      aria-labelledby={title ? id : undefined}
      className={`rounded-card border border-line bg-surface p-4 shadow-card sm:p-5 ${className}`}
    >
      {title && (
        <div className="mb-3 flex min-h-8 items-center justify-between gap-3">
          <Heading id={id} className="text-lg font-semibold">
            {title}
          </Heading>
          {aside}
        </div>
      )}
      {children}
    </section>
  );
}
