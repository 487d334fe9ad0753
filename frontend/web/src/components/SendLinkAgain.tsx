import { messageOf } from "@lac/client";
import { useState } from "react";
import { useLac, useUser } from "../services";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";

/** Another mail with a link that confirms one's address. */
export function SendLinkAgain({ centred = false }: { centred?: boolean }) {
  const { api, auth } = useLac();
  const email = useUser()?.email;
  const [busy, setBusy] = useState(false);
  const [sent, setSent] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);

  async function send() {
    setBusy(true);
    setSent(false);
    setProblem(null);
    try {
      await api.requestVerification();
      setSent(true);
      // Confirmed meanwhile, on another device: then there was nothing to send.
      await api
        .me()
        .then(auth.setUser)
        .catch(() => undefined);
    } catch (error) {
      setProblem(messageOf(error));
    } finally {
      setBusy(false);
    }
  }

  return (
    <div className={`grid gap-3 ${centred ? "justify-items-center" : "justify-items-start"}`}>
      {problem && <Notice tone="error">{problem}</Notice>}
      <Button busy={busy} onClick={() => void send()}>
        Send the link again
      </Button>
      <p role="status" className={`break-words text-muted ${sent ? "" : "-mt-3"}`}>
        {sent && `A link is on its way${email ? ` to ${email}` : ""}. It works for three days.`}
      </p>
    </div>
  );
}
