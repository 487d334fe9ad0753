import { messageOf } from "@lac/client";
import { type ReactNode, useState } from "react";
import { useSubmit } from "../lib/submit";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Notice } from "../ui/Notice";

/** A secret that has got into wrong hands is replaced, after a question. */
export function Renew({
  label,
  question,
  children,
  work,
}: {
  label: string;
  question: string;
  /** What it means for whoever has the present one. */
  children: ReactNode;
  work: () => Promise<void>;
}) {
  const submit = useSubmit();
  const [asking, setAsking] = useState(false);
  const [done, setDone] = useState(false);
  const renew = async () => {
    if (!(await submit.run({ work }))) return;
    setAsking(false);
    setDone(true);
  };
  return (
    <div className="flex flex-wrap items-center gap-3">
      <Button
        size="small"
        onClick={() => {
          setDone(false);
          setAsking(true);
        }}
      >
        {label}
      </Button>
      <span role="status" className="text-sm text-muted">
        {done && "Done. The old one does not work any more."}
      </span>
      <Dialog open={asking} onClose={() => setAsking(false)} title={question}>
        <p className="mb-5 text-muted">{children}</p>
        {submit.problem && (
          <div className="mb-4">
            <Notice tone="error">{messageOf(submit.problem)}</Notice>
          </div>
        )}
        <div className="flex flex-wrap justify-end gap-2">
          <Button look="quiet" onClick={() => setAsking(false)}>
            Keep it
          </Button>
          <Button look="primary" busy={submit.busy} onClick={() => void renew()}>
            Replace it
          </Button>
        </div>
      </Dialog>
    </div>
  );
}
