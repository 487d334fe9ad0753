import type { Broadcast } from "@lac/client";
import { Link } from "react-router";
import { formatDateTime, formatDay, plural } from "../lib/time";
import { CalendarIcon, HeadphonesIcon } from "../ui/icons";
import { StatusBadge } from "../ui/StatusBadge";

/** One show in a list. The whole card is the link; its name is the title. */
export function BroadcastCard({ broadcast, to }: { broadcast: Broadcast; to?: string }) {
  const { id, title, description, status, host, listenerCount, scheduledAt, endedAt } = broadcast;
  return (
    <li className="relative flex flex-col gap-2 rounded-card border border-line bg-surface p-4 shadow-card transition-colors focus-within:border-accent hover:border-accent sm:p-5">
      <div className="flex items-center justify-between gap-3">
        <StatusBadge status={status} />
        {status === "live" && (
          <span className="inline-flex items-center gap-1.5 text-sm text-muted tabular-nums">
            <HeadphonesIcon width={16} height={16} />
            {plural(listenerCount, "listener")}
          </span>
        )}
      </div>
      <h3 className="line-clamp-2 text-lg leading-snug font-semibold">
        <Link
          to={to ?? `/b/${encodeURIComponent(id)}`}
          className="after:absolute after:inset-0 after:rounded-card"
        >
          {title}
        </Link>
      </h3>
      <p className="text-muted">{host.displayName}</p>
      {description && <p className="line-clamp-2 text-sm text-muted">{description}</p>}
      {status === "scheduled" && (
        <p className="mt-auto inline-flex items-center gap-1.5 pt-1 text-sm font-medium">
          <CalendarIcon width={16} height={16} />
          {scheduledAt ? (
            <time dateTime={scheduledAt}>{formatDateTime(scheduledAt)}</time>
          ) : (
            "No time set yet"
          )}
        </p>
      )}
      {status === "ended" && endedAt && (
        <p className="mt-auto pt-1 text-sm text-muted">
          Ended <time dateTime={endedAt}>{formatDay(endedAt)}</time>
        </p>
      )}
    </li>
  );
}
