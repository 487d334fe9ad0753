import {
  type InputHTMLAttributes,
  type ReactNode,
  type TextareaHTMLAttributes,
  useId,
  useState,
} from "react";

interface Common {
  label: string;
  hint?: ReactNode;
  error?: string | undefined;
}

function Frame({
  id,
  label,
  hint,
  error,
  optional,
  children,
}: Common & { id: string; optional: boolean; children: ReactNode }) {
  return (
    <div>
      <label htmlFor={id} className="mb-1.5 block font-medium">
        {label}
        {optional && <span className="font-normal text-muted"> (optional)</span>}
      </label>
      {children}
      {hint && (
        <p id={`${id}-hint`} className="mt-1.5 text-sm text-muted">
          {hint}
        </p>
      )}
      {error && (
        <p id={`${id}-error`} className="mt-1.5 text-sm font-medium text-signal">
          {error}
        </p>
      )}
    </div>
  );
}

function described(id: string, hint: ReactNode, error: string | undefined) {
  const ids = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  return {
    id,
    "aria-invalid": error ? (true as const) : undefined,
    "aria-describedby": ids || undefined,
  };
}

export function TextField({
  label,
  hint,
  error,
  className = "",
  ...props
}: InputHTMLAttributes<HTMLInputElement> & Common) {
  const id = useId();
  return (
    <Frame id={id} label={label} hint={hint} error={error} optional={!props.required}>
      <input {...props} {...described(id, hint, error)} className={`input ${className}`} />
    </Frame>
  );
}

/** Hidden until asked for: one field that can be read is better than typing it twice. */
export function PasswordField({
  label,
  hint,
  error,
  ...props
}: Omit<InputHTMLAttributes<HTMLInputElement>, "type"> & Common) {
  const id = useId();
  const [shown, setShown] = useState(false);
  return (
    <Frame id={id} label={label} hint={hint} error={error} optional={!props.required}>
      <div className="relative">
        <input
          {...props}
          {...described(id, hint, error)}
          type={shown ? "text" : "password"}
          autoCapitalize="none"
          spellCheck={false}
          className="input pr-18"
        />
        <button
          type="button"
          aria-label={`${shown ? "Hide" : "Show"} ${label.toLowerCase()}`}
          onClick={() => setShown(!shown)}
          className="absolute inset-y-0 right-0 min-w-16 rounded-xl px-3 text-sm font-medium text-muted hover:text-ink"
        >
          {shown ? "Hide" : "Show"}
        </button>
      </div>
    </Frame>
  );
}

export function TextArea({
  label,
  hint,
  error,
  ...props
}: TextareaHTMLAttributes<HTMLTextAreaElement> & Common) {
  const id = useId();
  return (
    <Frame id={id} label={label} hint={hint} error={error} optional={!props.required}>
      <textarea rows={3} {...props} {...described(id, hint, error)} className="input resize-y" />
    </Frame>
  );
}

export interface Choice<Value extends string> {
  value: Value;
  label: string;
  hint: string;
}

export function Choices<Value extends string>({
  legend,
  choices,
  value,
  onChange,
  disabled = false,
}: {
  legend: string;
  choices: readonly Choice<Value>[];
  value: Value;
  onChange: (value: Value) => void;
  disabled?: boolean;
}) {
  const name = useId();
  return (
    <fieldset disabled={disabled} className="disabled:opacity-60">
      <legend className="mb-1.5 font-medium">{legend}</legend>
      <div className="grid gap-2">
        {choices.map((choice) => (
          <label
            key={choice.value}
            className="flex min-h-11 cursor-pointer items-start gap-3 rounded-xl border border-line bg-surface px-3.5 py-2.5 has-checked:border-accent has-checked:bg-accent-soft"
          >
            <input
              type="radio"
              name={name}
              value={choice.value}
              checked={choice.value === value}
              onChange={() => onChange(choice.value)}
              aria-label={choice.label}
              aria-describedby={`${name}-${choice.value}`}
              className="mt-1 size-4 shrink-0 accent-accent"
            />
            <span>
              <span className="block font-medium">{choice.label}</span>
              <span id={`${name}-${choice.value}`} className="block text-sm text-muted">
                {choice.hint}
              </span>
            </span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

export function Checkbox({
  label,
  hint,
  checked,
  onChange,
}: {
  label: string;
  hint: string;
  checked: boolean;
  onChange: (checked: boolean) => void;
}) {
  const id = useId();
  return (
    <label className="flex min-h-11 items-start gap-3">
      <input
        type="checkbox"
        checked={checked}
        aria-label={label}
        aria-describedby={id}
        onChange={(event) => onChange(event.target.checked)}
        className="mt-0.5 size-5 shrink-0 accent-accent"
      />
      <span>
        <span className="block font-medium">{label}</span>
        <span id={id} className="block text-sm text-muted">
          {hint}
        </span>
      </span>
    </label>
  );
}
