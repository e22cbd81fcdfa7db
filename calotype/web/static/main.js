// Defines the elements of the tabs.

import "./orders.js";
import "./compare.js";
import "./restore.js";
import "./names.js";
import "./start.js";
import "./imagine.js";
import "./photos.js";
import "./train.js";
import "./models.js";
import "./settings.js";
import "./queue.js";
import "./gallery.js";
