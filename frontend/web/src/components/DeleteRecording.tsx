import { type Broadcast, messageOf, type Recording } from "@lac/client";
import { useState } from "react";
import { useLac } from "../services";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";

/** For those whose it is, a button that asks once more. */
export function DeleteRecording({
  broadcast,
  recording,
  onDeleted,
  onProblem,
  look = "quiet",
  className,
}: {
  broadcast: Broadcast;
  recording: Recording;
  onDeleted: () => void;
  onProblem: (problem: string | null) => void;
  look?: "quiet" | "outline";
  className?: string;
}) {
  const { api } = useLac();
  const [asking, setAsking] = useState(false);
  if (broadcast.yourRole !== "admin" && broadcast.yourRole !== "host") return null;
  async function remove(): Promise<void> {
    setAsking(false);
    onProblem(null);
    try {
      await api.deleteRecording(recording.id);
      onDeleted();
    } catch (error) {
      onProblem(messageOf(error));
    }
  }
  return (
    <>
      <Button look={look} className={className} onClick={() => setAsking(true)}>
        Delete recording
      </Button>
      <Dialog open={asking} onClose={() => setAsking(false)} title="Delete this recording?">
        <p className="mb-5 text-muted">Its files go for good, and nobody can hear it again.</p>
        <div className="flex flex-wrap justify-end gap-2">
          <Button look="quiet" onClick={() => setAsking(false)}>
            Keep it
          </Button>
          <Button look="signal" onClick={() => void remove()}>
            Delete for good
          </Button>
        </div>
      </Dialog>
    </>
  );
}
