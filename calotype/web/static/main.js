// Defines the elements of the tabs.

import "./orders.js";
import "./compare.js";
import "./restore.js";
import "./queue.js";
import "./gallery.js";
