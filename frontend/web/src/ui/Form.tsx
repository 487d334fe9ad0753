import type { ReactNode } from "react";
import type { Submit } from "../lib/submit";

/** The form that `submit` sends. Errors are said by the fields themselves, not by the browser. */
export function Form({
  submit,
  onSubmit,
  children,
}: {
  submit: Submit;
  onSubmit: () => Promise<unknown>;
  children: ReactNode;
}) {
  return (
    <form
      ref={submit.form}
      noValidate
      className="grid gap-4"
      onSubmit={(event) => {
        event.preventDefault();
        void onSubmit();
      }}
    >
      {children}
    </form>
  );
}
