import "./styles.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { BrowserRouter } from "react-router";
import { App } from "./App";
import { browserServices, ServicesContext } from "./services";

async function main(): Promise<void> {
  const services = browserServices();
  const { auth } = services.lac;
  await auth.restore();
  // Signed in or out in another tab.
  window.addEventListener("storage", (event) => {
    if (event.key === null || event.key === "lac.session") void auth.restore();
  });
  const root = document.getElementById("root");
  if (!root) throw new Error("index.html has no #root");
  createRoot(root).render(
    <StrictMode>
      <ServicesContext value={services}>
        <BrowserRouter>
          <App />
        </BrowserRouter>
      </ServicesContext>
    </StrictMode>,
  );
}

void main();
