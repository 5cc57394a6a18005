//! The JSON dialect of bodies (fastjson's): lenient reading, Java-shaped writing.
