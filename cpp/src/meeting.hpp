// How far apart threads are at the moment: a plan that lets them meet often is worth it only where that is quick.
#pragma once

namespace fastrnn {

// Nanoseconds in which two threads meet that share a cache.
constexpr double kNear = 80;

// The same for two threads of this process now. On a virtual machine, or one with several groups of cores, the system may
// run them where what one writes reaches the other several times later, for milliseconds or for minutes: it is measured
// again whenever somebody asks after a while. kNear as long as it could not be measured.
double meeting_time();

// For tests and measurements: the nanoseconds to believe in; 0: measure.
void assume_meeting(double nanoseconds);

}  // namespace fastrnn
