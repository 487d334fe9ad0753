import type { ReactNode } from "react";
import { InfoIcon, WarnIcon } from "./icons";

type Tone = "info" | "warn" | "error";

const TONES: Record<Tone, string> = {
  info: "bg-accent-soft text-ink [&>svg]:text-accent",
  warn: "bg-warn-soft text-ink [&>svg]:text-warn",
  error: "bg-signal-soft text-ink [&>svg]:text-signal",
};

/** Something to know now. Errors interrupt a screen reader, the rest waits its turn. */
export function Notice({
  tone = "info",
  title,
  children,
  action,
  quiet = false,
}: {
  tone?: Tone;
  title?: string;
  children?: ReactNode;
  action?: ReactNode;
  /** Part of the page from the start: nothing to announce. */
  quiet?: boolean;
}) {
  return (
    <div
      role={quiet ? undefined : tone === "error" ? "alert" : "status"}
      className={`flex gap-3 rounded-2xl px-4 py-3 ${TONES[tone]}`}
    >
      {tone === "info" ? (
        <InfoIcon className="mt-0.5 shrink-0" />
      ) : (
        <WarnIcon className="mt-0.5 shrink-0" />
      )}
      <div className="min-w-0 flex-1">
        {title && <p className="font-semibold">{title}</p>}
        {children && <div className="text-[0.95rem]">{children}</div>}
        {action && <div className="mt-2">{action}</div>}
      </div>
    </div>
  );
}
