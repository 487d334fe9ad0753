import type { ReactNode } from "react";
import { Navigate, useLocation } from "react-router";
import { useUser } from "../services";

/** Sends people to sign in first, and brings them back afterwards. */
export function RequireUser({ children }: { children: ReactNode }) {
  const user = useUser();
  const { pathname, search } = useLocation();
  if (user) return children;
  return <Navigate to={`/login?next=${encodeURIComponent(pathname + search)}`} replace />;
}
