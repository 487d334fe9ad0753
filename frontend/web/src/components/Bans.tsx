import { type Ban, messageOf } from "@lac/client";
import { useCallback, useState } from "react";
import { usePolling } from "../lib/hooks";
import { formatDateTime } from "../lib/time";
import { useLac } from "../services";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";

const POLL_MS = 10_000;

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
const nameOf = ({ displayName }: Ban) => displayName ?? "A guest";

function List({ id }: { id: string }) {
  const { api } = useLac();
  const [latest, setLatest] = useState<readonly Ban[] | null>(null);
  const [older, setOlder] = useState<readonly Ban[]>([]);
  const [cursor, setCursor] = useState<string | null>(null);
  const [lifted, setLifted] = useState<ReadonlySet<string>>(new Set());
  const [problem, setProblem] = useState<string | null>(null);
  const [news, setNews] = useState("");
  const load = useCallback(
    async (signal: AbortSignal) => {
      try {
        const page = await api.bans(id, undefined, signal);
        setLatest(page.items);
        setCursor((cursor) => cursor ?? page.nextCursor);
        setProblem(null);
      } catch (error) {
        if (!signal.aborted) setProblem(messageOf(error));
      }
    },
    [api, id],
  );
  usePolling(load, POLL_MS);

  async function act(work: () => Promise<void>) {
    setProblem(null);
    setNews("");
    try {
      await work();
    } catch (error) {
      setProblem(messageOf(error));
    }
  }
  const keyOf = (ban: Ban) => `${ban.userId} ${ban.createdAt}`;
  const lift = (ban: Ban) =>
    act(async () => {
      await api.liftBan(id, ban.userId);
      setLifted((before) => new Set([...before, keyOf(ban)]));
      setNews(`${nameOf(ban)} can come back.`);
    });
  const showOlder = () =>
    act(async () => {
      const page = await api.bans(id, cursor ?? undefined);
      setOlder((before) => [...before, ...page.items]);
      setCursor(page.nextCursor ?? "");
    });

  const all = new Map([...(latest ?? []), ...older].map((ban) => [keyOf(ban), ban]));
  const bans = [...all.values()].filter((ban) => !lifted.has(keyOf(ban)) && !isOver(ban));
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
      {latest === null && !problem && <p className="text-muted">Loading…</p>}
      {latest !== null && bans.length === 0 && <p className="text-muted">Nobody is banned.</p>}
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
      {cursor && (
        <Button size="small" className="mt-3" onClick={() => void showOlder()}>
          Show older bans
        </Button>
      )}
    </>
  );
}
