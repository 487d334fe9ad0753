import { ApiError, messageOf } from "@lac/client";
import { type RefObject, useEffect, useRef, useState } from "react";

export type FieldErrors = Record<string, string | undefined>;

export interface Submit {
  form: RefObject<HTMLFormElement | null>;
  busy: boolean;
  /** Message per field. */
  errors: FieldErrors;
  /** What went wrong with no field to blame. */
  problem: ApiError | Error | null;
  /** Checks, does the work, and says whether it is done. Wrong fields get the focus. */
  run: (options: {
    wrong?: FieldErrors;
    work: () => Promise<void>;
    /** The form's fields, by the names that the server has for them. */
    fields?: readonly string[];
    /** Which field a refusal is about, by its code. */
    codes?: Record<string, string>;
  }) => Promise<boolean>;
}

/** One form on its way to the server. */
export function useSubmit(): Submit {
  const form = useRef<HTMLFormElement>(null);
  const [busy, setBusy] = useState(false);
  const [errors, setErrors] = useState<FieldErrors>({});
  const [problem, setProblem] = useState<Error | null>(null);
  const [attempts, setAttempts] = useState(0);

  useEffect(() => {
    if (attempts > 0) form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  }, [attempts]);

  const run: Submit["run"] = async ({ wrong = {}, work, fields = [], codes = {} }) => {
    if (busy) return false;
    setErrors(wrong);
    setProblem(null);
    if (Object.values(wrong).some(Boolean)) {
      setAttempts((before) => before + 1);
      return false;
    }
    setBusy(true);
    try {
      await work();
      return true;
    } catch (failure) {
      const answered: FieldErrors = {};
      if (failure instanceof ApiError) {
        for (const name of fields) answered[name] = failure.fields[name];
        const field = codes[failure.code];
        if (field) answered[field] = failure.message;
      }
      setErrors(answered);
      if (Object.values(answered).some(Boolean)) setAttempts((before) => before + 1);
      else setProblem(failure instanceof Error ? failure : new Error(messageOf(failure)));
      return false;
    } finally {
      setBusy(false);
    }
  };

  return { form, busy, errors, problem, run };
}
