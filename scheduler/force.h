/*
 * force.h - a preemption that no plan asked for: tests show with it that it changes
 * nothing but time.
 */
#ifndef QUIRE_SCHEDULER_FORCE_H
#define QUIRE_SCHEDULER_FORCE_H

#include "scheduler/scheduler.h"

QR_BEGIN_DECLS

/*
 * Between complete and plan. A sequence that waits already stays as it is. The
 * preemption is in no plan's list.
 */
void qr_scheduler_force_preempt(struct qr_scheduler *sched, qr_seq_id seq, enum qr_release how);

QR_END_DECLS

#endif /* QUIRE_SCHEDULER_FORCE_H */
