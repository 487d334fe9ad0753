import { NOTE_MAX, type Room, type RoomView } from "@lac/client";
import { useState } from "react";
import { useAct } from "../lib/act";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { TextField } from "../ui/Field";
import { HandIcon } from "../ui/icons";

/** To ask for the stage, with a note if one likes. */
export function RaiseHand({
  room,
  view,
  ensureName,
}: {
  room: Room;
  view: RoomView;
  ensureName: () => Promise<boolean>;
}) {
  const { act, problem } = useAct();
  const [asking, setAsking] = useState(false);
  const [note, setNote] = useState("");
  const position = view.hands.findIndex((hand) => hand.userId === view.you?.id) + 1;
  const raised = position > 0;
  const raise = (note?: string) =>
    act(async () => {
      if (await ensureName()) await room.raiseHand(note);
    });
  return (
    <div className="flex flex-wrap items-center justify-center gap-x-3 gap-y-1">
      <Button
        look={raised ? "primary" : "outline"}
        icon={<HandIcon />}
        onClick={() => void (raised ? act(() => room.lowerHand()) : raise())}
        disabled={view.socket.name !== "joined"}
      >
        {raised ? "Lower hand" : "Raise hand"}
      </Button>
      {raised && (
        <Button look="quiet" onClick={() => setAsking(true)}>
          Add a note
        </Button>
      )}
      <span role="status" className="text-sm text-muted empty:hidden">
        {raised && `Your hand is up, number ${position} in the queue.`}
        {problem}
      </span>
      <Dialog open={asking} onClose={() => setAsking(false)} title="What is it about?">
        <form
          onSubmit={(event) => {
            event.preventDefault();
            setAsking(false);
            void raise(note.trim());
          }}
        >
          <TextField
            label="Note"
            hint="Everyone in this show can see it."
            maxLength={NOTE_MAX}
            value={note}
            onChange={(event) => setNote(event.target.value)}
          />
          <div className="mt-5 flex flex-wrap justify-end gap-2">
            <Button look="quiet" onClick={() => setAsking(false)}>
              Cancel
            </Button>
            <Button type="submit" look="primary">
              Save
            </Button>
          </div>
        </form>
      </Dialog>
    </div>
  );
}
