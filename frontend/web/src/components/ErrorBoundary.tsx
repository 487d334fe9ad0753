import { Component, type ReactNode } from "react";
import { Button } from "../ui/Button";
import { PageState } from "./PageState";

/** Catches what a page throws, most often a part of the app that a new version has replaced on the server. */
export class ErrorBoundary extends Component<{ children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    return (
      <PageState
        title="This page did not load"
        action={
          <Button look="primary" onClick={() => window.location.reload()}>
            Reload
          </Button>
        }
      >
        The server may have been updated, or the connection broke. Reload to try again.
      </PageState>
    );
  }
}
