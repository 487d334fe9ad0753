import { AccountForm } from "../components/AccountForm";
import { PageState } from "../components/PageState";
import { useLinkToken } from "../lib/hooks";
import { useLac } from "../services";

export default function SetupPage() {
  const { auth } = useLac();
  const token = useLinkToken();
  return (
    <>
      <title>Set up · LiveAudioCast</title>
      {token ? (
        <AccountForm
          title="Welcome"
          intro="This creates the first account, which runs the server. The link works once."
          isNew
          submit="Create admin account"
          after="/host"
          action={({ email, password, displayName }) =>
            auth.setup(token, email, password, displayName)
          }
        />
      ) : (
        <PageState title="This link is not complete">
          Copy the whole set-up link from the server's first lines of output. It ends in a long
          token.
        </PageState>
      )}
    </>
  );
}
