import type { Broadcast, RecorderState, RoomView } from "@lac/client";
import { useState } from "react";
import { useAct } from "../lib/act";
import { formatClock } from "../lib/time";
import { useLac } from "../services";
import { Button } from "../ui/Button";
import { Card } from "../ui/Card";
import { TextField } from "../ui/Field";
import { RecordIcon, StopIcon } from "../ui/icons";
import { Notice } from "../ui/Notice";

/** Everyone who is in a show may know that it is recorded. */
export function RecordingBadge({ state }: { state: RecorderState }) {
  if (state === "off") return null;
  return (
    <span className="inline-flex items-center gap-1.5 rounded-full bg-sunken px-2.5 py-0.5 text-sm font-semibold whitespace-nowrap text-muted">
      <RecordIcon width={14} height={14} className="text-signal" />
      {state === "recording" ? "Recorded" : "Recording interrupted"}
    </span>
  );
}

/** Start and stop the recording, and mark its chapters. */
export function Recorder({ broadcast, view }: { broadcast: Broadcast; view: RoomView }) {
  const { api } = useLac();
  const { act: attempt, busy, problem } = useAct();
  const [title, setTitle] = useState("");
  const [marked, setMarked] = useState("");
  const active = view.recording !== "off";

  const act = (work: () => Promise<unknown>) => {
    setMarked("");
    return attempt(work);
  };

  const mark = () =>
    act(async () => {
      const chapter = await api.markChapter(broadcast.id, title.trim());
      setMarked(`“${chapter.title}” begins at ${formatClock(chapter.startS * 1000)}.`);
      setTitle("");
    });

  return (
    <Card title="Recording" aside={<RecordingBadge state={view.recording} />}>
      <div className="grid gap-4">
        {problem && <Notice tone="error">{problem}</Notice>}
        {view.recording === "interrupted" && (
          <Notice tone="warn" title="The server cannot write the recording just now">
            The show goes on. The recording goes on by itself as soon as it can; what is said until
            then is silence in it. Tell whoever runs this server: most often the disk is full.
          </Notice>
        )}
        <div className="flex flex-wrap items-center gap-3">
          {active ? (
            <Button
              icon={<StopIcon />}
              busy={busy}
              onClick={() => void act(() => api.stopRecording(broadcast.id))}
            >
              Stop recording
            </Button>
          ) : (
            <Button
              icon={<RecordIcon className="text-signal" />}
              busy={busy}
              onClick={() => void act(() => api.startRecording(broadcast.id))}
            >
              Record
            </Button>
          )}
          <p role="status" className="flex-1 basis-60 text-sm text-muted">
            {active
              ? "Everyone in the show sees that it is recorded."
              : "Not recorded. Start at any time; every recording is a file of its own."}
          </p>
        </div>
        {active && (
          <form
            className="flex flex-wrap items-end gap-3"
            onSubmit={(event) => {
              event.preventDefault();
              if (!busy && title.trim() !== "") void mark();
            }}
          >
            <div className="min-w-0 flex-1 basis-56">
              <TextField
                label="A new chapter begins now"
                required
                maxLength={200}
                placeholder="What it is about"
                value={title}
                onChange={(event) => setTitle(event.target.value)}
              />
            </div>
            <Button type="submit" busy={busy}>
              Mark it
            </Button>
          </form>
        )}
        <p role="status" className="text-sm text-muted empty:hidden">
          {marked}
        </p>
      </div>
    </Card>
  );
}
