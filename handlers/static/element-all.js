// All custom elements at once, and where they get their token: what a page of another site imports. See docs/embedding.md.

import "./element-bell.js";
import "./element-comments.js";
import "./element-overview.js";

export { useCopydesk } from "./element-shared.js";
