import { Link, useSearchParams } from "react-router";
import { useStore } from "zustand";
import { AccountForm } from "../components/AccountForm";
import { useLac } from "../services";

export default function LoginPage() {
  const { auth } = useLac();
  const [params] = useSearchParams();
  const expired = useStore(auth.store, (state) => state.expired);
  return (
    <>
      <title>Sign in · LiveAudioCast</title>
      <AccountForm
        title="Sign in"
        intro={
          expired
            ? "You have been signed out. Sign in again to go on."
            : "To host shows and to chat under your own name."
        }
        isNew={false}
        submit="Sign in"
        action={({ email, password }) => auth.login(email, password)}
        below={
          <>
            New here?{" "}
            <Link className="text-accent underline" to={`/register?${params}`}>
              Create an account
            </Link>
          </>
        }
      />
    </>
  );
}
