import type { LinkStats } from "@lac/client";
import { useEffect, useState } from "react";
import { useCopy } from "../lib/hooks";
import { Button } from "../ui/Button";

const EVERY_MS = 2000;

/** Figures for people who look into a problem, folded away. */
export function ConnectionDetails({ stats }: { stats: () => Promise<LinkStats | null> }) {
  const [open, setOpen] = useState(false);
  const [latest, setLatest] = useState<LinkStats | null>(null);
  const { copied, copy } = useCopy();

  useEffect(() => {
    if (!open) return;
    let current = true;
    const read = () => {
      stats().then((value) => {
        if (current) setLatest(value);
      });
    };
    read();
    const timer = setInterval(read, EVERY_MS);
    return () => {
      current = false;
      clearInterval(timer);
    };
  }, [open, stats]);

  return (
    <details
      className="rounded-2xl border border-line bg-surface"
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary className="min-h-11 px-4 py-2.5 font-medium text-muted">Connection details</summary>
      <div className="px-4 pb-4">
        {latest ? (
          <>
            <dl className="grid grid-cols-[auto_1fr] gap-x-6 gap-y-1 text-sm tabular-nums">
              {rows(latest).map(([name, value]) => (
                <div key={name} className="contents">
                  <dt className="text-muted">{name}</dt>
                  <dd className="text-right">{value}</dd>
                </div>
              ))}
            </dl>
            <Button
              size="small"
              className="mt-3"
              onClick={() => copy(JSON.stringify(latest, null, 2))}
            >
              {copied ? "Copied" : "Copy details"}
            </Button>
          </>
        ) : (
          <p className="text-sm text-muted">There is no sound connection now.</p>
        )}
      </div>
    </details>
  );
}

function rows(stats: LinkStats): [string, string][] {
  const ms = (value: number | null) => (value === null ? "–" : `${Math.round(value)} ms`);
  const percent = (value: number | null) =>
    value === null ? "–" : `${(value * 100).toFixed(1)} %`;
  const received = stats.direction === "recv";
  return [
    ["State", stats.state],
    ["Round trip", ms(stats.roundTripMs)],
    ["Lost packets", percent(stats.lossRatio)],
    ["Jitter", ms(stats.jitterMs)],
    ...(received
      ? ([
          ["Buffer", ms(stats.jitterBufferMs)],
          ["Repaired sound", percent(stats.concealedRatio)],
        ] as [string, string][])
      : []),
    ["Bit rate", stats.bitrateKbps === null ? "–" : `${Math.round(stats.bitrateKbps)} kbit/s`],
    [received ? "Packets received" : "Packets sent", new Intl.NumberFormat().format(stats.packets)],
    ["Codec", stats.codec ?? "–"],
    ["Server", stats.remote ?? "–"],
    ["Rebuilt", `${stats.rebuilds} ×`],
  ];
}
