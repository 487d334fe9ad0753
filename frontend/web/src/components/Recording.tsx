import { messageOf, type RecorderState, type RoomView } from "@lac/client";
import { useState } from "react";
import { useLac } from "../services";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";

/** Whoever is in the room can see that it is recorded. */
export function RecordingBadge({ state }: { state: RecorderState }) {
  if (state === "off") return null;
  const base =
    "inline-flex items-center gap-1.5 rounded-full px-2.5 py-0.5 text-sm font-semibold whitespace-nowrap";
  return state === "recording" ? (
    <span className={`${base} bg-sunken text-ink`}>
      <span aria-hidden="true" className="size-2 rounded-full bg-signal" />
      Recording
    </span>
  ) : (
    <span className={`${base} bg-warn-soft text-warn`}>Recording interrupted</span>
  );
}

/** Begin or end the recording of a live show. What the room says of it is what counts. */
export function RecordButton({ id, view }: { id: string; view: RoomView }) {
  const { api } = useLac();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const recorded = view.recording !== "off";

  async function change(): Promise<void> {
    setBusy(true);
    setProblem(null);
    try {
      await (recorded ? api.stopRecording(id) : api.startRecording(id));
    } catch (error) {
      setProblem(messageOf(error));
    } finally {
      setBusy(false);
    }
  }

  return (
    <div className="grid gap-3">
      <div className="flex flex-wrap items-center gap-3">
        <Button busy={busy} onClick={() => void change()}>
          {recorded ? "Stop recording" : "Record"}
        </Button>
        <RecordingBadge state={view.recording} />
      </div>
      {view.recording === "interrupted" && (
        <Notice tone="warn" title="Nothing is being recorded just now">
          The server cannot write: its disk is full or too slow. It goes on as soon as it can.
        </Notice>
      )}
      {problem && <Notice tone="error">{problem}</Notice>}
    </div>
  );
}
