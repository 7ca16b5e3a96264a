"""Knowledge distillation with training wheels: students that learn when to ask their teacher."""
