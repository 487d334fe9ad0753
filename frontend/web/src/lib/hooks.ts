import { useCallback, useEffect, useRef, useState } from "react";
import { useLocation } from "react-router";

/** The time, renewed every `everyMs`; stands still when that is null. */
export function useNow(everyMs: number | null): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (everyMs === null) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** Calls `work` now and then every `everyMs` while the page is looked at. */
export function usePolling(work: (signal: AbortSignal) => Promise<void>, everyMs: number): void {
  useEffect(() => {
    const abort = new AbortController();
    let busy = false;
    const run = async () => {
      if (busy || document.visibilityState === "hidden") return;
      busy = true;
      await work(abort.signal);
      busy = false;
    };
    void run();
    const timer = setInterval(run, everyMs);
    document.addEventListener("visibilitychange", run);
    return () => {
      abort.abort();
      clearInterval(timer);
      document.removeEventListener("visibilitychange", run);
    };
  }, [work, everyMs]);
}

/** Calls `retry` when the network comes back or the page is looked at again. */
export function useWakeUp(retry: () => void): void {
  const latest = useRef(retry);
  useEffect(() => {
    latest.current = retry;
  });
  useEffect(() => {
    const wake = () => {
      if (document.visibilityState === "visible") latest.current();
    };
    window.addEventListener("online", wake);
    document.addEventListener("visibilitychange", wake);
    return () => {
      window.removeEventListener("online", wake);
      document.removeEventListener("visibilitychange", wake);
    };
  }, []);
}

/** Copies text; `copied` is true for a little while afterwards. Works without HTTPS too. */
export function useCopy(): { copied: boolean; copy: (text: string) => Promise<void> } {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2500);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = useCallback(async (text: string) => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
    } catch {
      setCopied(copyTheOldWay(text));
    }
  }, []);
  return { copied, copy };
}

/** The clipboard API exists in secure contexts only; a server in the living room has no certificate. */
function copyTheOldWay(text: string): boolean {
  const focused = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.style.position = "fixed";
  area.style.opacity = "0";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return done;
}

/** The token of a link: behind the #, where no log of a server has it, or in the query as older links have it. */
export function useLinkToken(): string | null {
  const { hash, search } = useLocation();
  return (
    new URLSearchParams(hash.slice(1)).get("token") ||
    new URLSearchParams(search).get("token") ||
    null
  );
}
