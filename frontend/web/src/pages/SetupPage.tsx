import { useSearchParams } from "react-router";
import { AccountForm } from "../components/AccountForm";
import { PageState } from "../components/PageState";
import { useLac } from "../services";

export default function SetupPage() {
  const { auth } = useLac();
  const [params] = useSearchParams();
  const token = params.get("token");
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
