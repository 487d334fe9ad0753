import { messageOf, type Room } from "@lac/client";
import { useState } from "react";
import { useLac } from "../services";
import { CopyField } from "../ui/CopyField";
import { Notice } from "../ui/Notice";

const FORMATS = [
  ["mp3", "MP3, for almost everything"],
  ["aac", "AAC"],
  ["ogg", "Ogg Opus, as the host sends it"],
] as const;

/** Addresses for radios, cars and players, folded away. Those of a private show are one's own. */
export function OtherPlayers({ room }: { room: Room }) {
  const { api } = useLac();
  const [addresses, setAddresses] = useState<Record<"mp3" | "aac" | "ogg", string> | null>(null);
  const [problem, setProblem] = useState<string | null>(null);

  async function load(): Promise<void> {
    setProblem(null);
    try {
      setAddresses(await api.listenAddresses(room.id, room.mediaAuth()));
    } catch (error) {
      setProblem(messageOf(error));
    }
  }

  return (
    <details
      className="rounded-2xl border border-line bg-surface"
      onToggle={(event) => {
        if (event.currentTarget.open && addresses === null) void load();
      }}
    >
      <summary className="min-h-11 px-4 py-2.5 font-medium text-muted">
        Listen in another player
      </summary>
      <div className="grid gap-4 px-4 pb-4">
        <p className="text-sm text-muted">
          For internet radios, cars, VLC and the like. They are some seconds behind, and have no
          chat.
        </p>
        {problem && <Notice tone="error">{problem}</Notice>}
        {addresses &&
          FORMATS.map(([format, label]) => (
            <CopyField
              key={format}
              label={label}
              value={`${window.location.origin}${addresses[format]}`}
            />
          ))}
      </div>
    </details>
  );
}
