import type { Ban } from "@lac/client";
import { useCallback, useState } from "react";
import { useLatest } from "../lib/latest";
import { formatDateTime } from "../lib/time";
import { useLac } from "../services";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";

/** Who is banned, for those who moderate, and the way back in. Fetched only while it is open. */
export function Bans({ id }: { id: string }) {
  const [open, setOpen] = useState(false);
  return (
    <details
      className="rounded-card border border-line bg-surface shadow-card"
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary className="min-h-11 px-4 py-3 text-lg font-semibold sm:px-5">Banned people</summary>
      {open && (
        <div className="px-4 pb-5 sm:px-5">
          <List id={id} />
        </div>
      )}
    </details>
  );
}

const isOver = ({ until }: Ban) => until !== null && Date.parse(until) <= Date.now();
const keyOf = (ban: Ban) => `${ban.userId} ${ban.createdAt}`;
const nameOf = ({ displayName }: Ban) => displayName ?? "A guest";

function List({ id }: { id: string }) {
  const { api } = useLac();
  const [lifted, setLifted] = useState<ReadonlySet<string>>(new Set());
  const [news, setNews] = useState("");
  const fetchPage = useCallback(
    (cursor?: string, signal?: AbortSignal) => api.bans(id, cursor, signal),
    [api, id],
  );
  const { items, showOlder, act, problem } = useLatest(fetchPage, keyOf);
  const lift = (ban: Ban) => {
    setNews("");
    return act(async () => {
      await api.liftBan(id, ban.userId);
      setLifted((before) => new Set([...before, keyOf(ban)]));
      setNews(`${nameOf(ban)} can come back.`);
    });
  };
  const older =
    showOlder &&
    (() => {
      setNews("");
      return showOlder();
    });

  const bans = (items ?? []).filter((ban) => !lifted.has(keyOf(ban)) && !isOver(ban));
  return (
    <>
      {problem && (
        <div className="mb-3">
          <Notice tone="error">{problem}</Notice>
        </div>
      )}
      <p role="status" className="mb-3 text-sm font-medium text-accent empty:hidden">
        {news}
      </p>
      {items === null && !problem && <p className="text-muted">Loading…</p>}
      {items !== null && bans.length === 0 && <p className="text-muted">Nobody is banned.</p>}
      {bans.length > 0 && (
        <ul aria-label="Banned people" className="grid gap-2">
          {bans.map((ban) => (
            <li
              key={keyOf(ban)}
              className="flex flex-wrap items-center gap-x-3 gap-y-1 border-b border-line pb-2 last:border-0"
            >
              <span className="min-w-0 flex-1 basis-40 wrap-anywhere">
                <span className="block font-medium">{nameOf(ban)}</span>
                <span className="block text-sm text-muted">
                  {ban.until ? `until ${formatDateTime(ban.until)}` : "for good"}
                  {ban.reason && ` · “${ban.reason}”`}
                </span>
              </span>
              <Button
                size="small"
                aria-label={`Let ${nameOf(ban)} come back`}
                onClick={() => void lift(ban)}
              >
                Let come back
              </Button>
            </li>
          ))}
        </ul>
      )}
      {older && (
        <Button size="small" className="mt-3" onClick={() => void older()}>
          Show older bans
        </Button>
      )}
    </>
  );
}
