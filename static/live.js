// News of runs: one event stream per page, closed while the page is hidden.

/** Call `tell(run)` with the present state of each of these runs and again whenever it changes.
 *  Without numbers: every run that changes. */
export function follow(runs, tell) {
  let source = null;
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(`/api/v1/live?runs=${runs.join(",")}`);
    source.addEventListener("run", ({ data }) => tell(JSON.parse(data)));
    source.addEventListener("open", () => say(true));
    source.addEventListener("error", () => {
      say(false);
      // a refused stream is not tried again by the browser itself
      if (source?.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(open, 2000);
      }
    });
  };
  const close = () => {
    source?.close();
    source = null;
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
}

/** Do something every so many ms while somebody can see the page. */
export function every(ms, work) {
  setInterval(() => {
    if (!document.hidden) work();
  }, ms);
}

function say(connected) {
  document.dispatchEvent(new CustomEvent("connection", { detail: { connected } }));
}

/** A function that runs `work` at most once per `every` ms, the last call never lost. */
export function paced(work, every) {
  let timer = null;
  let again = false;
  const run = async () => {
    again = false;
    try {
      await work();
    } catch (error) {
      // the server may be restarting: the next piece of news tries again
      if (!(error instanceof TypeError)) throw error;
    }
    timer = setTimeout(() => {
      timer = null;
      if (again) start();
    }, every);
  };
  const start = () => {
    timer = -1;
    run();
  };
  return () => {
    if (timer === null) start();
    else again = true;
  };
}
