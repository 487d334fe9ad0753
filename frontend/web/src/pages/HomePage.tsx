import { type Broadcast, messageOf } from "@lac/client";
import { type ReactNode, useCallback, useId, useState } from "react";
import { BroadcastCard } from "../components/BroadcastCard";
import { usePolling } from "../lib/hooks";
import { useLac, useUser } from "../services";
import { Button, ButtonLink } from "../ui/Button";
import { Notice } from "../ui/Notice";

const REFRESH_MS = 15_000;

export function HomePage() {
  const { api } = useLac();
  const user = useUser();
  const [live, setLive] = useState<Broadcast[] | null>(null);
  const [upcoming, setUpcoming] = useState<Broadcast[] | null>(null);
  const [problem, setProblem] = useState<string | null>(null);

  const load = useCallback(
    async (signal?: AbortSignal) => {
      try {
        const [now, later] = await Promise.all([
          api.listBroadcasts({ status: "live", limit: 50 }, signal),
          api.listBroadcasts({ status: "scheduled", limit: 50 }, signal),
        ]);
        if (signal?.aborted) return;
        setLive(now.items);
        setUpcoming(later.items);
        setProblem(null);
      } catch (error) {
        if (!signal?.aborted) setProblem(messageOf(error));
      }
    },
    [api],
  );
  usePolling(load, REFRESH_MS);

  return (
    <>
      <title>LiveAudioCast: live now</title>
      <div className="mb-8 flex flex-wrap items-end justify-between gap-4">
        <div>
          <h1 className="text-3xl font-semibold tracking-tight sm:text-4xl">
            Live audio, right now
          </h1>
          <p className="mt-1.5 max-w-prose text-muted">
            Pick a show and listen. No account needed.
          </p>
        </div>
        <ButtonLink to={user ? "/host?new" : "/register?next=%2Fhost%3Fnew"} look="primary">
          Start your own show
        </ButtonLink>
      </div>
      {problem && (
        <div className="mb-6">
          <Notice
            tone="error"
            title="The list could not be loaded"
            action={<Button onClick={() => load()}>Try again</Button>}
          >
            {problem}
          </Notice>
        </div>
      )}
      <Shows title="Live now" shows={live} failed={problem !== null}>
        Nobody is on air at the moment. This page refreshes by itself, so you can leave it open.
      </Shows>
      <Shows title="Coming up" shows={upcoming} failed={problem !== null}>
        Nothing is scheduled yet. Shows with a date appear here.
      </Shows>
    </>
  );
}

function Shows({
  title,
  shows,
  failed,
  children,
}: {
  title: string;
  shows: Broadcast[] | null;
  failed: boolean;
  children: ReactNode;
}) {
  const id = useId();
  if (shows === null && failed) return null;
  return (
    <section aria-labelledby={id} className="mb-10" aria-busy={shows === null}>
      <h2 id={id} className="mb-3 text-xl font-semibold">
        {title}
      </h2>
      {shows === null ? (
        <div className="grid gap-4 sm:grid-cols-2 lg:grid-cols-3" aria-hidden="true">
          {[0, 1, 2].map((index) => (
            <div
              key={index}
              className="h-40 rounded-card border border-line bg-surface motion-safe:animate-pulse max-sm:not-first:hidden"
            />
          ))}
        </div>
      ) : shows.length === 0 ? (
        <p className="rounded-card border border-dashed border-line-strong px-5 py-8 text-center text-muted">
          {children}
        </p>
      ) : (
        <ul className="grid gap-4 sm:grid-cols-2 lg:grid-cols-3">
          {shows.map((broadcast) => (
            <BroadcastCard key={broadcast.id} broadcast={broadcast} />
          ))}
        </ul>
      )}
    </section>
  );
}
