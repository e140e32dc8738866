// The operations of the API, drawn by Swagger UI from the server's own OpenAPI document.

const place = document.getElementById("operations");
const root = document.documentElement;

const followTheme = () => root.classList.toggle("dark-mode", root.dataset.theme === "dark");
followTheme();
new MutationObserver(followTheme).observe(root, { attributeFilter: ["data-theme"] });

SwaggerUIBundle({
  domNode: place,
  url: place.dataset.document,
  // otherwise it would ask a validator on the internet about the document
  validatorUrl: null,
  deepLinking: true,
  defaultModelsExpandDepth: -1,
});
