import { ApiError, messageOf, NAME_MAX, newPasswordProblem, PASSWORD_MIN } from "@lac/client";
import { type ReactNode, useEffect, useRef, useState } from "react";
import { Link, Navigate, useNavigate, useSearchParams } from "react-router";
import { useUser } from "../services";
import { Button } from "../ui/Button";
import { Card } from "../ui/Card";
import { PasswordField, TextField } from "../ui/Field";
import { Notice } from "../ui/Notice";

export interface Credentials {
  email: string;
  password: string;
  displayName: string;
}

/** Only paths of this site: `next` comes from the address bar. */
export function safeNext(next: string | null): string {
  // Browsers drop tabs and line breaks, so that what looks like a path may begin with two slashes after all.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is looked for
  return next !== null && /^\/(?![/\\])[^\\\u0000-\u0020\u007f]*$/.test(next) ? next : "/";
}

/** Sign in, register and set-up: the same fields, one submit. */
export function AccountForm({
  title,
  intro,
  isNew,
  submit,
  action,
  after,
  below,
}: {
  title: string;
  intro?: ReactNode;
  isNew: boolean;
  submit: string;
  action: (credentials: Credentials) => Promise<void>;
  /** Where to go when done; the address's `next` by default. */
  after?: string;
  below?: ReactNode;
}) {
  const user = useUser();
  const navigate = useNavigate();
  const [params] = useSearchParams();
  const next = after ?? safeNext(params.get("next"));
  const [values, setValues] = useState<Credentials>({ email: "", password: "", displayName: "" });
  const [fields, setFields] = useState<Record<string, string>>({});
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  const [attempts, setAttempts] = useState(0);

  useEffect(() => {
    if (attempts > 0) form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  }, [attempts]);

  if (user && !busy) return <Navigate to={next} replace />;

  function check(): Record<string, string> {
    const wrong: Record<string, string> = {};
    if (isNew && values.displayName.trim() === "") wrong.displayName = "Write the name people see.";
    if (!values.email.includes("@"))
      wrong.email = "Write an e-mail address, such as ana@example.org.";
    const badPassword = isNew
      ? newPasswordProblem(values.password)
      : values.password === "" && "Write your password.";
    if (badPassword) wrong.password = badPassword;
    return wrong;
  }

  async function send() {
    const wrong = check();
    setFields(wrong);
    setProblem(null);
    if (Object.keys(wrong).length > 0) {
      setAttempts(attempts + 1);
      return;
    }
    setBusy(true);
    try {
      await action({
        ...values,
        email: values.email.trim(),
        displayName: values.displayName.trim(),
      });
      navigate(next, { replace: true });
    } catch (error) {
      const answered = error instanceof ApiError ? error.fields : {};
      setFields({ ...answered });
      setProblem(messageOf(error));
      setAttempts(attempts + 1);
    } finally {
      setBusy(false);
    }
  }

  const field = (name: keyof Credentials) => ({
    name,
    value: values[name],
    error: fields[name],
    required: true,
    onChange: (event: { target: { value: string } }) =>
      setValues({ ...values, [name]: event.target.value }),
  });

  return (
    <div className="mx-auto max-w-md py-4 sm:py-8">
      <h1 className="mb-2 text-3xl font-semibold tracking-tight">{title}</h1>
      {intro && <div className="mb-5 text-muted">{intro}</div>}
      <Card>
        <form
          ref={form}
          noValidate
          className="grid gap-4"
          onSubmit={(event) => {
            event.preventDefault();
            if (!busy) void send();
          }}
        >
          {problem && <Notice tone="error">{problem}</Notice>}
          {isNew && (
            <TextField
              label="Display name"
              autoComplete="nickname"
              maxLength={NAME_MAX}
              {...field("displayName")}
            />
          )}
          <TextField
            label="E-mail"
            type="email"
            autoComplete={isNew ? "email" : "username"}
            {...field("email")}
          />
          <PasswordField
            label="Password"
            autoComplete={isNew ? "new-password" : "current-password"}
            hint={isNew ? `At least ${PASSWORD_MIN} characters.` : undefined}
            {...field("password")}
          />
          <Button type="submit" look="primary" busy={busy} className="mt-1">
            {submit}
          </Button>
          {!isNew && (
            <Link
              to="/forgot-password"
              state={{ email: values.email.trim() }}
              className="inline-flex min-h-11 items-center justify-self-center px-2 text-accent underline"
            >
              Forgot your password?
            </Link>
          )}
        </form>
      </Card>
      {below && <p className="mt-5 text-center text-muted">{below}</p>}
    </div>
  );
}
