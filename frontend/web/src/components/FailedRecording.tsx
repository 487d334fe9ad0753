import type { Broadcast, Recording } from "@lac/client";
import { useState } from "react";
import { formatClock, formatDateTime } from "../lib/time";
import { Notice } from "../ui/Notice";
import { DeleteRecording } from "./DeleteRecording";

/** What went wrong; `kept` is what can be heard, as a clock, where something can. */
function reason(failure: Recording["failure"], kept: string | null): string {
  const missing = kept === null ? "" : ` What came after ${kept} is missing.`;
  switch (failure) {
    case "disk_full":
      return `The server's disk was full.${missing}`;
    case "disk_error":
      return `The server's disk could not be written to.${missing}`;
    case "duration":
      return "It is not as long as the show was: some of it is missing.";
    case "undecodable":
      return "Large parts of it cannot be played.";
    default:
      return "Nothing was written.";
  }
}

/** Of one that can be heard in part: why not in whole. Only those who run the show are told of it at all. */
export function PartlyKept({ recording }: { recording: Recording }) {
  const kept = formatClock((recording.durationS ?? 0) * 1000);
  return (
    <Notice tone="warn" quiet title="This recording is not whole">
      {reason(recording.failure, kept)} What was kept can be heard and saved by those who run the
      show; nobody else sees it, and it is not in the podcast.
    </Notice>
  );
}

/** One of which nothing was kept. */
export function NothingKept({
  broadcast,
  recording,
  onDeleted,
}: {
  broadcast: Broadcast;
  recording: Recording;
  onDeleted: () => void;
}) {
  const [problem, setProblem] = useState<string | null>(null);
  return (
    <Notice
      tone="warn"
      quiet
      title={`The recording of ${formatDateTime(recording.startedAt)} failed`}
      action={
        <DeleteRecording
          broadcast={broadcast}
          recording={recording}
          onDeleted={onDeleted}
          onProblem={setProblem}
          look="outline"
        />
      }
    >
      {reason(recording.failure, null)} There is nothing to hear.
      {problem && <p role="alert">{problem}</p>}
    </Notice>
  );
}
