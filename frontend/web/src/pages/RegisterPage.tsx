import { Link, useSearchParams } from "react-router";
import { AccountForm } from "../components/AccountForm";
import { useLac } from "../services";

export default function RegisterPage() {
  const { auth } = useLac();
  const [params] = useSearchParams();
  return (
    <>
      <title>Create an account · LiveAudioCast</title>
      <AccountForm
        title="Create an account"
        intro="With an account you can host shows. Listening needs none."
        isNew
        submit="Create account"
        action={({ email, password, displayName }) => auth.register(email, password, displayName)}
        below={
          <>
            Have one already?{" "}
            <Link className="text-accent underline" to={`/login?${params}`}>
              Sign in
            </Link>
          </>
        }
      />
    </>
  );
}
