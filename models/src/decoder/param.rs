//! A trained tensor with what the optimizer keeps beside it.

use peft_kernels::{AdamW, Backend, Result, Tensor};

/// Gradient and moments of a trained tensor.
pub struct Moments<B: Backend> {
    /// Sum of the gradients since the last step.
    pub grad: Tensor<B>,
    /// First moment.
    pub m: Tensor<B>,
    /// Second moment.
    pub v: Tensor<B>,
}

/// A tensor that an adapter (or a full fine-tune) owns.
pub struct Param<B: Backend> {
    /// Its name in the file that is written: the PEFT name, or the checkpoint's.
    pub name: String,
    /// Its shape in that file; a vector is `[1, n]` here and `[n]` there.
    pub is_vector: bool,
    /// Its value.
    pub value: Tensor<B>,
    /// Present while it is trained.
    pub moments: Option<Moments<B>>,
    /// Weight decay applies.
    pub decay: bool,
    /// Multiplies the learning rate (LoRA+).
    pub rate: f64,
}

impl<B: Backend> Param<B> {
    /// A tensor that is only used, not trained.
    pub fn frozen(name: String, value: Tensor<B>, is_vector: bool) -> Self {
        Self { name, is_vector, value, moments: None, decay: false, rate: 1.0 }
    }

    /// Allocate what training needs.
    pub fn make_trainable(&mut self, be: &B, decay: bool, rate: f64) -> Result<()> {
        let (rows, cols) = (self.value.rows(), self.value.cols());
        self.moments =
            Some(Moments { grad: be.zeros(rows, cols)?, m: be.zeros(rows, cols)?, v: be.zeros(rows, cols)? });
        self.decay = decay;
        self.rate = rate;
        Ok(())
    }

    /// Shape in the file.
    pub fn file_shape(&self) -> Vec<usize> {
        if self.is_vector { vec![self.value.cols()] } else { vec![self.value.rows(), self.value.cols()] }
    }

    /// Where gradients are added.
    pub fn grad(&mut self) -> Option<&mut Tensor<B>> {
        self.moments.as_mut().map(|m| &mut m.grad)
    }

    /// Forget the gradients.
    pub fn zero_grad(&mut self, be: &B) -> Result<()> {
        match &mut self.moments {
            Some(m) => be.fill(m.grad.view_mut(), 0.0),
            None => Ok(()),
        }
    }

    /// One optimizer step; `params.learning_rate` and `weight_decay` are the run's, adjusted here.
    pub fn step(&mut self, be: &B, params: &AdamW) -> Result<()> {
        let Some(moments) = &mut self.moments else { return Ok(()) };
        let mut own = *params;
        own.learning_rate = (f64::from(params.learning_rate) * self.rate) as f32;
        if !self.decay {
            own.weight_decay = 0.0;
        }
        let Moments { grad, m, v } = moments;
        be.adamw(&mut self.value, m, v, grad, &own)
    }
}
