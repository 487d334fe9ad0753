import { useEffect, useRef } from "react";
import { Link, NavLink, Outlet, useLocation } from "react-router";
import { useStore } from "zustand";
import { useServices, useUser } from "../services";
import { BrandMark } from "../ui/icons";

const nav =
  "inline-flex min-h-11 items-center rounded-full px-3 font-medium text-muted hover:bg-sunken hover:text-ink aria-[current=page]:text-ink";

export function Layout() {
  const user = useUser();
  const onAir = useStore(useServices().studios.onAir, (state) => state.current);
  const { pathname } = useLocation();
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);

  // A new page begins at its top, for eyes and for screen readers.
  // biome-ignore lint/correctness/useExhaustiveDependencies: the path is what it waits for
  useEffect(() => {
    if (first.current) {
      first.current = false;
      return;
    }
    window.scrollTo(0, 0);
    main.current?.focus({ preventScroll: true });
  }, [pathname]);

  return (
    <div className="flex min-h-dvh flex-col">
      <a
        href="#main"
        className="sr-only rounded-full bg-accent px-4 py-2 text-on-accent focus:not-sr-only focus:absolute focus:top-3 focus:left-3 focus:z-20"
      >
        Skip to content
      </a>
      <header className="border-b border-line bg-surface">
        <div className="mx-auto flex h-16 max-w-6xl items-center gap-1 px-4 sm:px-6">
          <Link
            to="/"
            aria-label="LiveAudioCast, home"
            className="mr-auto inline-flex min-h-11 items-center gap-2.5 text-lg font-semibold tracking-tight"
          >
            <BrandMark />
            <span className={onAir ? "max-sm:hidden" : "max-[22rem]:hidden"}>LiveAudioCast</span>
          </Link>
          <nav aria-label="Main" className="flex items-center gap-1">
            {onAir && pathname !== `/host/${onAir.id}` && (
              <Link
                to={`/host/${encodeURIComponent(onAir.id)}`}
                className="inline-flex min-h-11 items-center gap-2 rounded-full bg-signal-soft px-3 font-semibold text-signal"
              >
                <span className="live-dot" aria-hidden="true" />
                On air
              </Link>
            )}
            <NavLink to="/host" className={nav}>
              {user ? (
                "My shows"
              ) : (
                <>
                  Host<span className="max-sm:hidden">&nbsp;a show</span>
                </>
              )}
            </NavLink>
            {user ? (
              <NavLink to="/account" className={nav} aria-label={`Account of ${user.displayName}`}>
                <span
                  aria-hidden="true"
                  className="inline-flex size-8 items-center justify-center rounded-full bg-accent-soft text-sm font-semibold text-accent uppercase"
                >
                  {[...user.displayName][0]}
                </span>
              </NavLink>
            ) : (
              <NavLink to="/login" className={nav}>
                Sign in
              </NavLink>
            )}
          </nav>
        </div>
      </header>
      <main
        ref={main}
        id="main"
        tabIndex={-1}
        className="mx-auto w-full max-w-6xl flex-1 px-4 py-6 sm:px-6 sm:py-8"
      >
        <Outlet />
      </main>
      <footer className="mx-auto w-full max-w-6xl px-4 py-5 text-sm text-muted sm:px-6">
        LiveAudioCast ·{" "}
        <a href="/api/docs" className="underline underline-offset-2 hover:text-ink">
          for developers
        </a>
      </footer>
    </div>
  );
}
