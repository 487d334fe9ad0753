import type { BroadcastStatus } from "@lac/client";

/** Where a show is in its life, in words and not by colour alone. */
export function StatusBadge({ status, away = false }: { status: BroadcastStatus; away?: boolean }) {
  const base =
    "inline-flex items-center gap-1.5 rounded-full px-2.5 py-0.5 text-sm font-semibold whitespace-nowrap";
  if (status === "live" && away) {
    return <span className={`${base} bg-warn-soft text-warn`}>Host away</span>;
  }
  if (status === "live") {
    return (
      <span className={`${base} bg-signal-soft text-signal`}>
        <span className="live-dot" aria-hidden="true" />
        Live
      </span>
    );
  }
  if (status === "scheduled") {
    return <span className={`${base} bg-accent-soft text-accent`}>Upcoming</span>;
  }
  return <span className={`${base} bg-sunken text-muted`}>Ended</span>;
}
