import type { ChatMode, Room, RoomView } from "@lac/client";
import { useState } from "react";
import { useAct } from "../lib/act";
import { plural } from "../lib/time";
import { Button } from "../ui/Button";
import { Card } from "../ui/Card";
import { Checkbox } from "../ui/Field";
import { MicOffIcon } from "../ui/icons";
import { Notice } from "../ui/Notice";

const SLOW_MODES = [0, 5, 10, 30, 60];
const WRITERS: readonly { value: ChatMode; label: string }[] = [
  { value: "open", label: "Everyone" },
  { value: "followers", label: "Followers of the host" },
  { value: "closed", label: "Nobody" },
];

/** The rules of the room. Each change counts at once, for everyone. */
export function ChatSettings({ room, view }: { room: Room; view: RoomView }) {
  const { act: attempt, problem } = useAct();
  const [done, setDone] = useState("");
  const { slowModeS, chatMode, locked } = view;
  const speeds = SLOW_MODES.includes(slowModeS)
    ? SLOW_MODES
    : [...SLOW_MODES, slowModeS].sort((a, b) => a - b);

  const act = (work: () => Promise<unknown>) => {
    setDone("");
    return attempt(work);
  };

  const muteAll = () =>
    act(async () => {
      const count = await room.muteAll();
      setDone(
        count === 0
          ? "There is nobody on the stage to mute."
          : `${plural(count, "person", "people")} muted.`,
      );
    });

  return (
    <Card title="Chat and room">
      {problem && (
        <div className="mb-3">
          <Notice tone="error">{problem}</Notice>
        </div>
      )}
      <div className="grid gap-4">
        <div className="grid gap-4 sm:grid-cols-2">
          <label className="block">
            <span className="mb-1.5 block font-medium">Who may write</span>
            <select
              className="input"
              value={chatMode}
              onChange={(event) => void act(() => room.setChatMode(event.target.value as ChatMode))}
            >
              {WRITERS.map(({ value, label }) => (
                <option key={value} value={value}>
                  {label}
                </option>
              ))}
            </select>
          </label>
          <label className="block">
            <span className="mb-1.5 block font-medium">Slow mode</span>
            <select
              className="input"
              value={slowModeS}
              onChange={(event) => void act(() => room.setSlowMode(Number(event.target.value)))}
            >
              {speeds.map((seconds) => (
                <option key={seconds} value={seconds}>
                  {seconds === 0 ? "Off" : `One message every ${seconds} s`}
                </option>
              ))}
            </select>
          </label>
        </div>
        <p className="text-sm text-muted">Hosts and moderators can always write.</p>
        <Checkbox
          label="Lock the room"
          hint="Nobody new comes in. Those who are here can leave and return."
          checked={locked}
          onChange={(lock) => void act(() => room.lock(lock))}
        />
        <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
          <Button icon={<MicOffIcon />} onClick={() => void muteAll()}>
            Mute everyone on the stage
          </Button>
          <span role="status" className="text-sm text-muted empty:hidden">
            {done}
          </span>
        </div>
      </div>
    </Card>
  );
}
