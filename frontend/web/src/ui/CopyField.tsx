import { useId, useState } from "react";
import { useCopy } from "../lib/hooks";
import { Button } from "./Button";
import { CheckIcon, CopyIcon } from "./icons";

/** Something to take away: a link, an address, a key (hidden until asked for). */
export function CopyField({
  label,
  value,
  secret = false,
}: {
  label: string;
  value: string;
  secret?: boolean;
}) {
  const id = useId();
  const [shown, setShown] = useState(!secret);
  const { copied, copy } = useCopy();
  const name = label.toLowerCase();
  return (
    <div>
      <label htmlFor={id} className="mb-1.5 block font-medium">
        {label}
      </label>
      <div className="flex flex-wrap gap-2">
        <input
          id={id}
          readOnly
          type={shown ? "text" : "password"}
          value={value}
          autoComplete="off"
          spellCheck={false}
          onFocus={(event) => event.currentTarget.select()}
          className="input min-w-0 flex-1 basis-full sm:basis-48 font-mono text-sm"
        />
        {secret && (
          <Button
            aria-label={`${shown ? "Hide" : "Reveal"} ${name}`}
            onClick={() => setShown(!shown)}
          >
            {shown ? "Hide" : "Reveal"}
          </Button>
        )}
        <Button
          aria-label={`Copy ${name}`}
          onClick={() => copy(value)}
          icon={copied ? <CheckIcon /> : <CopyIcon />}
        >
          <span aria-live="polite">{copied ? "Copied" : "Copy"}</span>
        </Button>
      </div>
    </div>
  );
}
