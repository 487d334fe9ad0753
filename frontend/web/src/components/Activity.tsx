import type { AuditEntry, Role } from "@lac/client";
import { useCallback, useEffect, useState } from "react";
import { useLatest } from "../lib/latest";
import { formatDateTime, formatTime } from "../lib/time";
import { useLac } from "../services";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";

type Names = Readonly<Record<string, string>>;

const keyOf = ({ id }: AuditEntry) => id;

/** What was done in a show, and by whom: for its hosts. Fetched only while it is open. */
export function Activity({ id, names }: { id: string; names: Names }) {
  const [open, setOpen] = useState(false);
  return (
    <details
      className="rounded-card border border-line bg-surface shadow-card"
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary className="min-h-11 px-4 py-3 text-lg font-semibold sm:px-5">Activity</summary>
      {open && (
        <div className="px-4 pb-5 sm:px-5">
          <Entries id={id} names={names} />
        </div>
      )}
    </details>
  );
}

function Entries({ id, names }: { id: string; names: Names }) {
  const { api } = useLac();
  const fetchPage = useCallback(
    (cursor?: string, signal?: AbortSignal) => api.audit(id, cursor, signal),
    [api, id],
  );
  const { items, showOlder, problem } = useLatest(fetchPage, keyOf);
  const entries = items ?? [];
  const nameOf = useNames(entries, names);

  return (
    <>
      {problem && (
        <div className="mb-3">
          <Notice tone="error">{problem}</Notice>
        </div>
      )}
      {items === null && !problem && <p className="text-muted">Loading…</p>}
      {items !== null && entries.length === 0 && (
        <p className="text-muted">Nothing yet. What you and your moderators do is listed here.</p>
      )}
      {entries.length > 0 && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region has to be reachable by keyboard
        <ol aria-label="Activity" tabIndex={0} className="grid max-h-80 gap-2 overflow-y-auto">
          {entries.map((entry) => (
            <li key={entry.id} className="flex gap-3 border-b border-line pb-2 last:border-0">
              <time
                dateTime={entry.at}
                title={formatDateTime(entry.at)}
                className="shrink-0 text-sm leading-6 text-muted tabular-nums"
              >
                {formatTime(entry.at)}
              </time>
              <span className="min-w-0 wrap-anywhere">{sentence(entry, nameOf)}</span>
            </li>
          ))}
        </ol>
      )}
      {showOlder && (
        <Button size="small" className="mt-3" onClick={() => void showOlder()}>
          Show older activity
        </Button>
      )}
    </>
  );
}

/** Names of people who were gone before this page was opened are asked for. */
function useNames(entries: readonly AuditEntry[], names: Names): (id: string | null) => string {
  const { api } = useLac();
  const [asked, setAsked] = useState<Record<string, string>>({});
  const unknown = entries
    .flatMap(({ actorId, targetId }) => [actorId, targetId])
    .find((id) => id !== null && !id.startsWith("guest-") && !names[id] && asked[id] === undefined);
  useEffect(() => {
    if (!unknown) return;
    const known = (name: string) => setAsked((asked) => ({ ...asked, [unknown]: name }));
    api.profile(unknown).then(
      (profile) => known(profile.displayName),
      () => known(""),
    );
  }, [api, unknown]);
  return (id) => {
    if (id === null) return "The server";
    return names[id] || asked[id] || (id.startsWith("guest-") ? "a guest" : "somebody");
  };
}

const ROLES: Partial<Record<Role, string>> = {
  cohost: "co-host",
  moderator: "moderator",
  speaker: "speaker",
};

const WRITERS: Record<string, string> = {
  open: "let everyone write",
  followers: "let only followers write",
  closed: "closed the chat",
};

/** One line of the audit log as a sentence. What a newer server adds is shown by its name. */
export function sentence(entry: AuditEntry, nameOf: (id: string | null) => string): string {
  const { action, detail } = entry;
  const actor = nameOf(entry.actorId);
  const target = nameOf(entry.targetId);
  const who = actor.charAt(0).toUpperCase() + actor.slice(1);
  const reason = typeof detail.reason === "string" ? `: “${detail.reason}”` : "";
  const role = ROLES[detail.role as Role] ?? "speaker";
  switch (action.replace(/^room\./, "")) {
    case "muted":
      return `${who} muted ${target}`;
    case "unmuted":
      return `${who} unmuted ${target}`;
    case "all_muted":
      return `${who} muted everyone on the stage`;
    case "removed":
      return `${who} removed ${target}${reason}`;
    case "banned": {
      const until =
        typeof detail.until === "string" ? ` until ${formatDateTime(detail.until)}` : "";
      return `${who} banned ${target}${until}${reason}`;
    }
    case "ban_lifted":
      return `${who} let ${target} come back`;
    case "hand_lowered":
      return `${who} lowered the hand of ${target}`;
    case "hand_moved":
      return `${who} moved the hand of ${target} to place ${detail.position}`;
    case "invited":
      return `${who} invited ${target} to speak`;
    case "invite_accepted":
      return `${who} accepted an invitation to speak`;
    case "invite_declined":
      return `${who} declined an invitation to speak`;
    case "invite_withdrawn":
      return `${who} withdrew the invitation to ${target}`;
    case "moved_to_audience":
      return entry.actorId === entry.targetId
        ? `${who} left the stage`
        : `${who} moved ${target} to the audience`;
    case "role_given":
      return `${who} made ${target} a ${role}`;
    case "role_taken":
      return `${who} took the role from ${target}`;
    case "message_deleted":
      return `${who} deleted a message`;
    case "messages_cleared":
      return `${who} cleared the messages of ${target}`;
    case "settings_changed": {
      const { slowMode, chatMode, locked } = detail;
      if (typeof slowMode === "number")
        return slowMode === 0
          ? `${who} ended the slow mode`
          : `${who} set the slow mode to ${slowMode} seconds`;
      if (typeof chatMode === "string") return `${who} ${WRITERS[chatMode] ?? "changed the chat"}`;
      return `${who} ${locked ? "locked" : "unlocked"} the room`;
    }
    default:
      return `${who}: ${action}`;
  }
}
