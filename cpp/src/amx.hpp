#pragma once

namespace fastrnn {

// Whether this CPU has AMX for bfloat16 and the system lets this process use it; asks the system for it.
bool amx_is_usable();

}  // namespace fastrnn
