// Defines the elements of the tabs.

import "./orders.js";
import "./restore.js";
import "./queue.js";
import "./gallery.js";
