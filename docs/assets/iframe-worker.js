// Browsers give pages from a folder (file:) no workers, and the search of the manual is one. Here a hidden frame runs it.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = "<!doctype html>";
      this.loaded = new Promise((resolve) => this.frame.addEventListener("load", resolve, { once: true }))
        .then(() => {
          this.inner = this.frame.contentWindow;
          // The answers of the script, which takes the frame's window for the global object of a worker.
          this.inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        })
        .then(() => this.load(new URL(address, document.baseURI)));
      document.body.append(this.frame);
    }

    load(address) {
      return new Promise((resolve, reject) => {
        const script = this.inner.document.createElement("script");
        script.src = address;
        script.onload = resolve;
        script.onerror = () => reject(new Error(`cannot load ${address}`));
        this.inner.document.body.append(script);
      });
    }

    postMessage(data) {
      this.loaded.then(() => this.inner.dispatchEvent(new this.inner.MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
