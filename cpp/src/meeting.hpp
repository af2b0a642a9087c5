// What is known of the other threads at the moment: whether a call should wake them, and how far apart they are. A plan
// that lets threads meet often is worth it only where that is quick.
#pragma once

namespace fastrnn {

// Whether so many operations are worth helpers. These sleep after a moment without work; a call that wakes one takes 40
// to 90 microseconds longer, which is what it saves in a small call. What was declined within the last millisecond
// counts, too: calls in quick succession wake them, a small one now and then does not.
bool worth_helpers(double flops);

// Nanoseconds in which two threads meet that share a cache.
constexpr double kNear = 80;

// The same for two threads of this process now. On a virtual machine, or one with several groups of cores, the system may
// run them where what one writes reaches the other several times later, for milliseconds or for minutes: it is measured
// again when somebody asks after a while and another thread is awake. Before that, and when the last time was long ago,
// kNear.
double meeting_time();

// For tests and measurements: as if helpers were awake, and so many nanoseconds away; 0: as they are.
void assume_meeting(double nanoseconds);

}  // namespace fastrnn
