import { messageOf } from "@lac/client";
import { useState } from "react";

export interface Act {
  /** Do it, and keep what goes wrong as the problem to show. It goes with the next try. */
  act: (work: () => Promise<unknown>) => Promise<void>;
  busy: boolean;
  problem: string | null;
  setProblem: (problem: string | null) => void;
}

/** What buttons do that are not a form: the newest problem is shown in one place. */
export function useAct(): Act {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);

  async function act(work: () => Promise<unknown>): Promise<void> {
    setBusy(true);
    setProblem(null);
    try {
      await work();
    } catch (error) {
      setProblem(messageOf(error));
    } finally {
      setBusy(false);
    }
  }

  return { act, busy, problem, setProblem };
}
